export GOOGLE_GEMINI_BASE_URL="https://pisces.example.com"
export GEMINI_API_KEY="YOUR_PISCES_KEY"
export GEMINI_MODEL="YOUR_MODEL"
