# pip install openai
from openai import OpenAI

client = OpenAI(base_url="https://pisces.example.com/v1", api_key="YOUR_PISCES_KEY")
stream = client.chat.completions.create(
    model="YOUR_MODEL",
    messages=[{"role": "user", "content": "Tell me about fish."}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
