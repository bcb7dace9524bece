"""What foreign clients send on either broker. The test knows by the ID, or by `case` in the body, what must become of each."""

import json


def work(n, case, **more):
    """The payload of `test.Work`; readers are tolerant, so that it can say which case it is."""
    return json.dumps({"n": n, "case": case, **more}).encode()


def attributes(id, **more):
    """What every message has, unless it is `None`, and what this one has beside."""
    least = {"specversion": "1.0", "id": id, "source": "/interop", "type": "test.Work"}
    return {name: value for name, value in (least | more).items() if value is not None}


def structured(id, data, **more):
    """A whole CloudEvent as one JSON object."""
    return json.dumps(attributes(id, **more) | {"data": json.loads(data)}).encode()


def common(prefix):
    """In binary mode: attributes, and a body."""
    everyday = [
        (attributes("done"), work(1, "done")),
        (attributes("retried"), work(2, "retried", failing=2)),
        (attributes("exhausted"), work(3, "exhausted", failing=9)),
        (attributes("refused"), work(4, "refused", refused=True)),
        (
            attributes("answered", replyto=f"{prefix}.replies", correlationid="order-7", tenant="blue"),
            work(5, "answered"),
        ),
        (attributes("answer-elsewhere", replyto="elsewhere"), work(6, "answer-elsewhere")),
        (attributes("twice"), work(7, "twice")),
        (attributes("twice"), work(7, "twice")),
        (attributes("id-reused"), work(8, "id-reused")),
        (attributes("id-reused"), work(9, "id-reused")),
        # One after another: they have one key.
        (attributes("operation", idempotencykey="pay-1", subject="pay"), work(10, "operation")),
        (attributes("operation-again", idempotencykey="pay-1", subject="pay"), work(10, "operation")),
        (attributes("operation-other", idempotencykey="pay-1", subject="pay"), work(11, "operation-other")),
    ]
    wrong_payloads = [
        (attributes("not-json"), b"{not json"),
        (attributes("wrong-type"), b'{"n": "one"}'),
        (attributes("empty-body"), b""),
    ]
    not_for_us = [
        (attributes("no-handler", type="test.Unknown"), work(12, "no-handler")),
        (attributes("too-new", schemaversion="99"), work(13, "too-new")),
        (attributes("too-late", expirytime="2020-01-01T00:00:00Z"), work(14, "too-late")),
        (attributes("aaaaaaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"), work(15, "from the future")),
    ]
    unreadable = [
        (attributes(None), work(16, "no id")),
        (attributes("x", type=None), work(17, "no type")),
        (attributes("x", specversion=None), work(18, "no specversion")),
        (attributes("x", specversion="0.3"), work(19, "old specversion")),
        (attributes("x", schemaversion="0"), work(20, "version 0")),
        (attributes("x", time="yesterday"), work(21, "no time")),
        (attributes("x" * 201), work(22, "long id")),
        (attributes("x", data="{}"), work(23, "data as an attribute")),
    ]
    return everyday + wrong_payloads + not_for_us + unreadable
