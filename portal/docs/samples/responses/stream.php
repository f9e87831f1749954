<?php
$rest = "";
$request = curl_init("https://pisces.example.com/v1/responses");
curl_setopt_array($request, [
    CURLOPT_HTTPHEADER => ["Authorization: Bearer YOUR_PISCES_KEY", "Content-Type: application/json"],
    CURLOPT_POSTFIELDS => json_encode([
        "model" => "YOUR_MODEL",
        "input" => "Tell me about fish.",
        "stream" => true,
    ]),
    CURLOPT_WRITEFUNCTION => function ($request, $bytes) use (&$rest) {
        $lines = explode("\n", $rest . $bytes);
        $rest = array_pop($lines);
        foreach ($lines as $line) {
            if (str_starts_with($line, "data: {")) {
                $event = json_decode(substr($line, 6), true);
                echo $event["type"] === "response.output_text.delta" ? $event["delta"] : "";
            }
        }
        return strlen($bytes);
    },
]);
curl_exec($request);
