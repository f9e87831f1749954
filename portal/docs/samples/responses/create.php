<?php
$request = curl_init("https://pisces.example.com/v1/responses");
curl_setopt_array($request, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_HTTPHEADER => ["Authorization: Bearer YOUR_PISCES_KEY", "Content-Type: application/json"],
    CURLOPT_POSTFIELDS => json_encode(["model" => "YOUR_MODEL", "input" => "Name a fish."]),
]);
$answer = json_decode(curl_exec($request), true);
foreach ($answer["output"] as $item) {
    if ($item["type"] === "message") {
        echo $item["content"][0]["text"], "\n";
    }
}
