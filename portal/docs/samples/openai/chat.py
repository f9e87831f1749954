# pip install openai
from openai import OpenAI

client = OpenAI(base_url="https://pisces.example.com/v1", api_key="YOUR_PISCES_KEY")
answer = client.chat.completions.create(
    model="YOUR_MODEL",
    messages=[{"role": "user", "content": "Name a fish."}],
)
print(answer.choices[0].message.content)
