# pip install openai
from openai import OpenAI

client = OpenAI(base_url="https://pisces.example.com/v1", api_key="YOUR_PISCES_KEY")
stream = client.responses.create(model="YOUR_MODEL", input="Tell me about fish.", stream=True)
for event in stream:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
