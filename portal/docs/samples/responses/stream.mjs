// npm install openai
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "https://pisces.example.com/v1", apiKey: "YOUR_PISCES_KEY" });
const stream = await client.responses.create({ model: "YOUR_MODEL", input: "Tell me about fish.", stream: true });
for await (const event of stream) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
}
