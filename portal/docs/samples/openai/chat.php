<?php
$request = curl_init("https://pisces.example.com/v1/chat/completions");
curl_setopt_array($request, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPHEADER => ["Authorization: Bearer YOUR_PISCES_KEY", "Content-Type: application/json"],
    CURLOPT_POSTFIELDS => json_encode([
        "model" => "YOUR_MODEL",
        "messages" => [["role" => "user", "content" => "Name a fish."]],
    ]),
]);
$answer = json_decode(curl_exec($request), true);
echo $answer["choices"][0]["message"]["content"], "\n";
