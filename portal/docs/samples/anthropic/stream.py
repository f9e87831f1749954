# pip install anthropic
from anthropic import Anthropic

client = Anthropic(base_url="https://pisces.example.com", api_key="YOUR_PISCES_KEY")
with client.messages.stream(
    model="YOUR_MODEL",
    max_tokens=500,
    messages=[{"role": "user", "content": "Tell me about fish."}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
