curl https://pisces.example.com/v1/models -H "Authorization: Bearer YOUR_PISCES_KEY"
