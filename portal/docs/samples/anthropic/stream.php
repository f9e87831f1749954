<?php
$rest = "";
$request = curl_init("https://pisces.example.com/v1/messages");
curl_setopt_array($request, [
    CURLOPT_HTTPHEADER => ["x-api-key: YOUR_PISCES_KEY", "anthropic-version: 2023-06-01", "Content-Type: application/json"],
    CURLOPT_POSTFIELDS => json_encode([
        "model" => "YOUR_MODEL",
        "max_tokens" => 500,
        "messages" => [["role" => "user", "content" => "Tell me about fish."]],
        "stream" => true,
    ]),
    CURLOPT_WRITEFUNCTION => function ($request, $bytes) use (&$rest) {
        $lines = explode("\n", $rest . $bytes);
        $rest = array_pop($lines);
        foreach ($lines as $line) {
            if (str_starts_with($line, "data: {")) {
                $event = json_decode(substr($line, 6), true);
                echo $event["delta"]["text"] ?? "";
            }
        }
        return strlen($bytes);
    },
]);
curl_exec($request);
