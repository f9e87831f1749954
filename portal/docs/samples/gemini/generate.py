# pip install google-genai
from google import genai

client = genai.Client(api_key="YOUR_PISCES_KEY", http_options={"base_url": "https://pisces.example.com"})
answer = client.models.generate_content(model="YOUR_MODEL", contents="Name a fish.")
print(answer.text)
