// npm install @anthropic-ai/sdk
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "https://pisces.example.com", apiKey: "YOUR_PISCES_KEY" });
const message = await client.messages.create({
  model: "YOUR_MODEL",
  max_tokens: 500,
  messages: [{ role: "user", content: "Name a fish." }],
});
for (const block of message.content) {
  if (block.type === "text") console.log(block.text);
}
