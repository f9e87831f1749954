curl -N https://pisces.example.com/v1/chat/completions \
  -H "Authorization: Bearer YOUR_PISCES_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "YOUR_MODEL",
    "messages": [{"role": "user", "content": "Tell me about fish."}],
    "stream": true,
    "stream_options": {"include_usage": true}
  }'
