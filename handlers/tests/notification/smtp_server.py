"""An SMTP server on loopback that does what the recipient's name says.

smtp_server.py plain|starttls|tls [CERTIFICATE KEY [USER PASSWORD]]

Prints its port, then a JSON line for each mail that it took. `refused@` is a 550, `later@` a 451, `closing@` a 421; a mail to
`hang@` is taken, and the answer never comes; after one to `cut@` the connection is gone.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

ANSWERS = {"refused": "550 no such user", "later": "451 come again", "closing": "421 closing down"}


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = ANSWERS.get(address.split("@")[0])
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or sys.argv[1] == "tls",
            "login": bool(session.authenticated),
            "data": envelope.content.decode(),
        }
        print(json.dumps(mail), flush=True)
        if envelope.rcpt_tos[0].startswith("hang@"):
            await asyncio.sleep(3600)
        if envelope.rcpt_tos[0].startswith("cut@"):
            server.transport.abort()
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    # `handled`: whether the answer was sent already.
    right = [data.login.decode(), data.password.decode()] == sys.argv[4:6]
    return AuthResult(success=right, handled=right)


async def main():
    mode, context, options = sys.argv[1], None, {}
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    if mode == "starttls":
        options = {"tls_context": context, "require_starttls": True}
    if len(sys.argv) > 5:
        options |= {"authenticator": login, "auth_required": True, "auth_require_tls": mode == "starttls"}

    def serve():
        return SMTP(Handler(), enable_SMTPUTF8=True, **options)

    server = await asyncio.get_running_loop().create_server(
        serve, "127.0.0.1", 0, ssl=context if mode == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
