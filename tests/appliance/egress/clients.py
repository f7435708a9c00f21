"""The libraries that agents in Python speak through, with nobody's help but the variables and the name server."""

import asyncio
import ssl
import sys
import urllib.request

import httpx
import websockets

trusted = ssl.create_default_context(cafile=sys.argv[1])


async def talk(proxy):
    async with websockets.connect("wss://good.test/socket", ssl=trusted, proxy=proxy) as socket:
        await socket.send("hello")
        return await socket.recv()


def outcome(call):
    try:
        return call()
    except Exception as error:
        return f"refused: {error!r}"


def fetch(url, **settings):
    with httpx.Client(verify=trusted, timeout=30, **settings) as client:
        return client.get(url).text.strip()


def urllib_fetch(url):
    with urllib.request.urlopen(url, context=trusted, timeout=30) as answer:
        return answer.read().decode().strip()


for name, call in {
    "httpx by the proxy": lambda: fetch("https://good.test/"),
    "httpx without a proxy": lambda: fetch("https://good.test/", trust_env=False),
    "urllib": lambda: urllib_fetch("https://good.test/"),
    "websocket by the proxy": lambda: asyncio.run(talk(True)),
    "websocket without a proxy": lambda: asyncio.run(talk(None)),
    "elsewhere by the proxy": lambda: fetch("https://evil.test/"),
    "elsewhere without a proxy": lambda: fetch("https://evil.test/", trust_env=False),
}.items():
    print(f"{name}: {outcome(call)}")
