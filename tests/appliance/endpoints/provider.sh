#!/bin/sh
# A provider for socat: notes the head of a request and answers it with so many tokens.
while IFS= read -r line; do
    line=$(printf %s "$line" | tr -d '\r')
    [ -n "$line" ] || break
    printf '%s\n' "$line" >>/dev/shm/asked
    case $line in
    [Cc]ontent-[Ll]ength:*) length=${line#*: } ;;
    esac
done
head -c "${length:-0}" >/dev/null
body='{"model":"large-1","content":[{"text":"hi"}],"usage":{"input_tokens":600,"output_tokens":100}}'
printf 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' \
    "${#body}" "$body"
