# pip install google-genai
from google import genai

client = genai.Client(api_key="YOUR_PISCES_KEY", http_options={"base_url": "https://pisces.example.com"})
for chunk in client.models.generate_content_stream(model="YOUR_MODEL", contents="Tell me about fish."):
    print(chunk.text or "", end="", flush=True)
