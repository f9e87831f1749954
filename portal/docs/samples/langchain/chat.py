# pip install langchain-openai
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url="https://pisces.example.com/v1",
    api_key="YOUR_PISCES_KEY",
    model="YOUR_MODEL",
)
print(model.invoke("Name a fish.").content)

for chunk in model.stream("Tell me about fish."):
    print(chunk.content, end="", flush=True)
