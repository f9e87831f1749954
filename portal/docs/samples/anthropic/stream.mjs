// npm install @anthropic-ai/sdk
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "https://pisces.example.com", apiKey: "YOUR_PISCES_KEY" });
const stream = client.messages.stream({
  model: "YOUR_MODEL",
  max_tokens: 500,
  messages: [{ role: "user", content: "Tell me about fish." }],
});
stream.on("text", (text) => process.stdout.write(text));
await stream.finalMessage();
