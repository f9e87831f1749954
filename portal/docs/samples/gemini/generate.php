<?php
$request = curl_init("https://pisces.example.com/v1beta/models/YOUR_MODEL:generateContent");
curl_setopt_array($request, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPHEADER => ["x-goog-api-key: YOUR_PISCES_KEY", "Content-Type: application/json"],
    CURLOPT_POSTFIELDS => json_encode([
        "contents" => [["role" => "user", "parts" => [["text" => "Name a fish."]]]],
    ]),
]);
$answer = json_decode(curl_exec($request), true);
foreach ($answer["candidates"][0]["content"]["parts"] as $part) {
    echo empty($part["thought"]) ? $part["text"] : "";
}
echo "\n";
