// npm install openai
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "https://pisces.example.com/v1", apiKey: "YOUR_PISCES_KEY" });
const stream = await client.chat.completions.create({
  model: "YOUR_MODEL",
  messages: [{ role: "user", content: "Tell me about fish." }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
