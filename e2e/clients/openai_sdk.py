"""OpenAI's own Python client against our gateway: what a caller of it gets, as one JSON object.

Comes in: address of the API, an API key, a recording. Goes out: every form of the answer, and the class, status,
code and message of each error. It judges nothing; e2e/tests/it/openai_sdk.rs does.
"""

import json
import pathlib
import sys

import openai

MODEL = "demo-asr"


def failed(call, **arguments) -> dict:
    """How a call fails."""
    try:
        call(**arguments)
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code,
                "type": error.type, "param": error.param, "message": error.message}
    return {"class": "none"}


def main(base_url: str, key: str, path: str) -> None:
    """Asks for everything once."""
    recording = pathlib.Path(path)
    with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        ask = client.audio.transcriptions.create
        verbose = ask(model=MODEL, file=recording, response_format="verbose_json",
                      timestamp_granularities=["word", "segment"])
        streamed = list(ask(model=MODEL, file=recording, stream=True))
        bad = ("noise.wav", b"\x01" * 999, "audio/wav")
        answers = {
            "models": [model.id for model in client.models.list()],
            "json": ask(model=MODEL, file=recording).text,
            "alias": ask(model="whisper-1", file=recording).text,
            "text": ask(model=MODEL, file=recording, response_format="text"),
            "srt": ask(model=MODEL, file=recording, response_format="srt"),
            "vtt": ask(model=MODEL, file=recording, response_format="vtt"),
            "verbose": verbose.model_dump(),
            "deltas": "".join(event.delta for event in streamed if event.type == "transcript.text.delta"),
            "done": [event.text for event in streamed if event.type == "transcript.text.done"],
            "no_audio": failed(ask, model=MODEL, file=bad),
            "no_model": failed(ask, model="no-such-model", file=recording),
            "no_format": failed(ask, model=MODEL, file=recording, response_format="diarized_json"),
            "too_large": failed(ask, model=MODEL, file=("large.wav", bytes(8 << 20), "audio/wav")),
        }
    with openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0) as stranger:
        answers["wrong_key"] = failed(stranger.audio.transcriptions.create, model=MODEL, file=recording)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
