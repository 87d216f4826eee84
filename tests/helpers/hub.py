"""A small Hugging Face Hub on this machine, and an HfApi that keeps what it is given."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(files: dict[str, bytes], repository: str = "user/name") -> Iterator[SimpleNamespace]:
    """Serve the files of one commit of a repository. `.url` is the endpoint, `.asked` what was requested.

    After `.cut` bytes of a file, if given, the server hangs up.
    """
    served = SimpleNamespace(asked=[], etags={}, cut=None)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            served.asked.append(f"{self.command} {self.path}")
            name, _, rest = self.path.removeprefix("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            problem = (
                "RepoNotFound" if name != repository else
                "RevisionNotFound" if revision not in ("main", COMMIT) else
                "EntryNotFound" if file not in files else None
            )  # fmt: skip
            self.send_response(404 if problem else 200)
            content = b"" if problem else files[file]
            if problem:
                self.send_header("X-Error-Code", problem)
            else:
                digest = served.etags.get(file) or hashlib.sha256(content).hexdigest()
                self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content[: served.cut])

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


class RecordedApi:
    """In place of huggingface_hub.HfApi: the calls made, and a copy of the folder uploaded last."""

    calls: list[tuple] = []
    folder: Path

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create_repo", repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append(("upload_folder", repo_id, commit_message))
        shutil.copytree(folder_path, self.folder, dirs_exist_ok=True)
        return SimpleNamespace(oid=COMMIT)
