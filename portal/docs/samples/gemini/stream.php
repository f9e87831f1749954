<?php
$rest = "";
$request = curl_init("https://pisces.example.com/v1beta/models/YOUR_MODEL:streamGenerateContent?alt=sse");
curl_setopt_array($request, [
    CURLOPT_HTTPHEADER => ["x-goog-api-key: YOUR_PISCES_KEY", "Content-Type: application/json"],
    CURLOPT_POSTFIELDS => json_encode([
        "contents" => [["role" => "user", "parts" => [["text" => "Tell me about fish."]]]],
    ]),
    CURLOPT_WRITEFUNCTION => function ($request, $bytes) use (&$rest) {
        $lines = explode("\n", $rest . $bytes);
        $rest = array_pop($lines);
        foreach ($lines as $line) {
            if (str_starts_with($line, "data: {")) {
                $event = json_decode(substr($line, 6), true);
                foreach ($event["candidates"][0]["content"]["parts"] ?? [] as $part) {
                    echo empty($part["thought"]) ? $part["text"] : "";
                }
            }
        }
        return strlen($bytes);
    },
]);
curl_exec($request);
