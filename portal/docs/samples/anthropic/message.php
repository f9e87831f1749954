<?php
$request = curl_init("https://pisces.example.com/v1/messages");
curl_setopt_array($request, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPHEADER => [
        "x-api-key: YOUR_PISCES_KEY",
        "anthropic-version: 2023-06-01",
        "Content-Type: application/json",
    ],
    CURLOPT_POSTFIELDS => json_encode([
        "model" => "YOUR_MODEL",
        "max_tokens" => 500,
        "messages" => [["role" => "user", "content" => "Name a fish."]],
    ]),
]);
$message = json_decode(curl_exec($request), true);
foreach ($message["content"] as $block) {
    if ($block["type"] === "text") {
        echo $block["text"], "\n";
    }
}
