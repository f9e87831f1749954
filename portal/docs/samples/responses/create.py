# pip install openai
from openai import OpenAI

client = OpenAI(base_url="https://pisces.example.com/v1", api_key="YOUR_PISCES_KEY")
first = client.responses.create(model="YOUR_MODEL", input="Name a fish.")
print(first.output_text)

second = client.responses.create(
    model="YOUR_MODEL",
    input="Where does it live?",
    previous_response_id=first.id,
)
print(second.output_text)
