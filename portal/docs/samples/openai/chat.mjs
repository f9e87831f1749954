// npm install openai
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "https://pisces.example.com/v1", apiKey: "YOUR_PISCES_KEY" });
const answer = await client.chat.completions.create({
  model: "YOUR_MODEL",
  messages: [{ role: "user", content: "Name a fish." }],
});
console.log(answer.choices[0].message.content);
