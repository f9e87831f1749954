# pip install anthropic
from anthropic import Anthropic

client = Anthropic(base_url="https://pisces.example.com", api_key="YOUR_PISCES_KEY")
message = client.messages.create(
    model="YOUR_MODEL",
    max_tokens=500,
    messages=[{"role": "user", "content": "Name a fish."}],
)
for block in message.content:
    if block.type == "text":
        print(block.text)
