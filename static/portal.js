// The portal's small behaviour: theme, tabs, copy, dialogs, toggles. Every page works without it.
const root = document.documentElement;
const YEAR = 60 * 60 * 24 * 365;

document.addEventListener("DOMContentLoaded", () => {
  const live = document.createElement("div");
  live.className = "vh";
  live.setAttribute("aria-live", "polite");
  document.body.append(live);

  for (const dialog of document.querySelectorAll("dialog[open]")) makeModal(dialog);
  document.querySelector("[data-focus]")?.focus();
  for (const samples of document.querySelectorAll(".sampled")) {
    samples.classList.add("tabbed");
    select(samples.querySelector("[aria-selected=true]"));
  }
  chooseLanguage(remembered());

  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest(selector);
    let el;
    if (at("[data-theme-switch]")) switchTheme();
    else if ((el = at("[role=tab]"))) choose(el);
    else if ((el = at("[data-copy]"))) copy(el);
    else if ((el = at("[data-toggle]"))) toggle(el);
    else if ((el = at("[data-dismiss]"))) el.closest(".toast").remove();
  });

  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("[role=tab]");
    if (tab && ["ArrowLeft", "ArrowRight"].includes(event.key)) moveTab(tab, event.key === "ArrowRight" ? 1 : -1);
    if (event.key === "/" && !event.target.closest("input, textarea, select, dialog")) {
      const search = document.querySelector("input[type=search]");
      if (search) { event.preventDefault(); search.focus(); }
    }
  });

  // A form that has been sent is not sent again by a second click. A field that is called "method" hides form.method.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.getAttribute("method") !== "post") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) for (const form of document.forms) delete form.dataset.sent;
  });

  // A dialog is a page of its own: closing it goes back to the page below it.
  function makeModal(dialog) {
    dialog.removeAttribute("open");
    dialog.showModal();
    const below = dialog.dataset.below;
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      if (!dialog.hasAttribute("data-keep")) location.assign(below);
    });
    // What is shown once must not be asked for again by a reload.
    if (dialog.hasAttribute("data-once")) history.replaceState(null, "", below);
  }

  function switchTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=${YEAR}; samesite=lax${secure}`;
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const text = button.dataset.text ?? source.textContent;
    try { await navigator.clipboard.writeText(text); } catch {
      if (source) getSelection().selectAllChildren(source);
      return;
    }
    const label = button.querySelector("[data-label]");
    const before = label?.textContent;
    if (button.classList.contains("copied")) return;
    button.classList.add("copied");
    live.textContent = button.dataset.done;
    if (label) label.textContent = button.dataset.done;
    setTimeout(() => {
      button.classList.remove("copied");
      live.textContent = "";
      if (label) label.textContent = before;
    }, 1500);
  }

  function toggle(button) {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    for (const id of button.dataset.toggle.split(" ")) {
      const target = document.getElementById(id);
      target.hidden = !target.hidden;
    }
  }

  function moveTab(tab, step) {
    const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  }

  // Who reads samples in one language reads all of them in it, on the next page too.
  function choose(tab) {
    const language = tab.dataset.language;
    const top = tab.getBoundingClientRect().top;
    if (language) chooseLanguage(language);
    select(tab);
    if (!language) return;
    scrollBy({ top: tab.getBoundingClientRect().top - top, behavior: "instant" });
    try { localStorage.setItem("language", language); } catch { /* a private window keeps nothing */ }
  }

  function remembered() {
    try { return localStorage.getItem("language"); } catch { return null; }
  }

  function chooseLanguage(language) {
    for (const tab of document.querySelectorAll("[role=tab][data-language]")) if (tab.dataset.language === language) select(tab);
  }

  function select(tab) {
    for (const other of tab.parentElement.querySelectorAll("[role=tab]")) {
      const on = other === tab;
      other.setAttribute("aria-selected", on);
      other.tabIndex = on ? 0 : -1;
      const panel = document.getElementById(other.getAttribute("aria-controls"));
      panel.hidden = !on;
      const button = on && tab.closest(".bar")?.querySelector("[data-copy]");
      if (button) button.dataset.copy = panel.querySelector("code").id;
    }
  }
});
