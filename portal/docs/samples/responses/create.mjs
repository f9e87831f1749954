// npm install openai
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "https://pisces.example.com/v1", apiKey: "YOUR_PISCES_KEY" });
const first = await client.responses.create({ model: "YOUR_MODEL", input: "Name a fish." });
console.log(first.output_text);

const second = await client.responses.create({
  model: "YOUR_MODEL",
  input: "Where does it live?",
  previous_response_id: first.id,
});
console.log(second.output_text);
