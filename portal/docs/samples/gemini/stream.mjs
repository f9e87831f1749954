// npm install @google/genai
import { GoogleGenAI } from "@google/genai";

const client = new GoogleGenAI({
  apiKey: "YOUR_PISCES_KEY",
  httpOptions: { baseUrl: "https://pisces.example.com" },
});
const stream = await client.models.generateContentStream({ model: "YOUR_MODEL", contents: "Tell me about fish." });
for await (const chunk of stream) {
  process.stdout.write(chunk.text ?? "");
}
