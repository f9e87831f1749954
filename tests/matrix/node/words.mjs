// What the four clients have in common.

export const dataUrl = (data, mime) => `data:${mime};base64,${data}`;

/** Without what was not asked for. */
export const given = (options) => Object.fromEntries(Object.entries(options).filter(([, value]) => value != null));

export const joined = (texts) => texts.join("");
