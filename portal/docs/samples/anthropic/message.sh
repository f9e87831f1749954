curl https://pisces.example.com/v1/messages \
  -H "x-api-key: YOUR_PISCES_KEY" \
  -H "anthropic-version: 2023-06-01" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "YOUR_MODEL",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Name a fish."}]
  }'
