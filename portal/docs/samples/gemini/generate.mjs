// npm install @google/genai
import { GoogleGenAI } from "@google/genai";

const client = new GoogleGenAI({
  apiKey: "YOUR_PISCES_KEY",
  httpOptions: { baseUrl: "https://pisces.example.com" },
});
const answer = await client.models.generateContent({ model: "YOUR_MODEL", contents: "Name a fish." });
console.log(answer.text);
