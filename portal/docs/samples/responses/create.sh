curl https://pisces.example.com/v1/responses \
  -H "Authorization: Bearer YOUR_PISCES_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "YOUR_MODEL",
    "input": "Name a fish."
  }'
