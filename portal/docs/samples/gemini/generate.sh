curl https://pisces.example.com/v1beta/models/YOUR_MODEL:generateContent \
  -H "x-goog-api-key: YOUR_PISCES_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "contents": [{"role": "user", "parts": [{"text": "Name a fish."}]}]
  }'
