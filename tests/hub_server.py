"""A small Hugging Face Hub on 127.0.0.1: what the real clients need to push, load, cache and be refused.

It keeps repositories with commits, branches, tags and large files in memory, knows two users by their tokens, and
writes down what it was asked for. Not there: pull requests, Xet, redirects to other hosts.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USERS = {"hf_owner": "owner", "hf_guest": "guest"}  # token → user
LARGE = (".safetensors", ".parquet", ".bin")


class HubError(Exception):
    """An answer of status `status`; `code` is what clients tell errors apart by, `content` the body."""

    def __init__(self, status: int, message: str, *, code: str | None = None, **content: Any):
        super().__init__(message)
        self.status, self.content = status, {"error": message} | content
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


@dataclass
class Repository:
    """Commits as folders of files, and names for some of them."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Make `files` the newest state of a branch."""
        sha = hashlib.sha1(f"{len(self.commits)} {branch} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> str:
        """The commit of a branch, a tag or a full hash."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return sha


class Hub:
    """What the server holds; `requests` is every method and path that it was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []

    def repository(self, kind: str, name: str, user: str | None, *, write: bool = False) -> Repository:
        """A repository that `user` may see, and write to where asked for."""
        found = self.repositories.get((kind, name))
        owner = name.split("/")[0]
        if found is None or (found.private and user != owner):
            raise HubError(401 if user is None else 404, "Repository not found", code="RepoNotFound")
        if write and user != owner:
            raise HubError(403, "You don't have the required permissions")
        return found

    def create(self, kind: str, name: str, user: str | None, *, private: bool, url: str) -> None:
        """A new repository with one empty commit, at `url`."""
        if user != name.split("/")[0]:
            raise HubError(401 if user is None else 403, f"You don't have the rights to create {name}")
        if (kind, name) in self.repositories:
            raise HubError(409, "You already created this repo", url=url)
        self.repositories[kind, name] = Repository(private)
        self.repositories[kind, name].commit("main", {})


def check_card(content: str) -> list[str]:
    """What is wrong with a card's metadata, by the Hub's documented rules for them."""
    block = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else None
    if not isinstance(data, dict):
        return ["a card starts with a block of metadata"]
    wrong = [
        f"{key} must be a list of strings"
        for key in ("tags", "datasets", "metrics")
        if not all(isinstance(item, str) for item in data.get(key, [])) or isinstance(data.get(key), str)
    ]
    wrong += [f"{name!r} is no id of a dataset" for name in data.get("datasets", []) if not _is_id(name)]
    for result in (result for model in data.get("model-index", []) for result in model["results"]):
        wrong += [f"a result lacks {part}" for part in ("task", "dataset", "metrics") if not result.get(part)]
        for metric in result.get("metrics", []):
            wrong += [f"a metric lacks {key}" for key in ("type", "value") if key not in metric]
        wrong += [f"a dataset lacks {key}" for key in ("name", "type") if key not in result.get("dataset", {})]
    return wrong


def _is_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None


def _file_info(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha256(content).hexdigest()
    info = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    return info | ({"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}} if path.endswith(LARGE) else {})


class Answers:
    """One method for each kind of request; `words` are the parts of its path."""

    def __init__(self, hub: Hub, user: str | None, url: str):
        self.hub, self.user, self.url = hub, user, url

    def whoami(self, words: dict, body: bytes) -> Any:
        if self.user is None:
            raise HubError(401, "Invalid username or password.")
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        return {"type": "user", "id": self.user, "name": self.user, "fullname": self.user, "orgs": [], "auth": token}

    def create(self, words: dict, body: bytes) -> Any:
        asked = json.loads(body)
        kind, name = asked.get("type", "model"), f"{asked.get('organization') or self.user}/{asked['name']}"
        url = f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.create(kind, name, self.user, private=private, url=url)
        return {"url": url, "name": name}

    def validate(self, words: dict, body: bytes) -> Any:
        errors = [{"message": message} for message in check_card(json.loads(body)["content"])]
        if errors:
            raise HubError(400, "invalid metadata", errors=errors, warnings=[])
        return {"errors": [], "warnings": []}

    def preupload(self, words: dict, body: bytes) -> Any:
        self._repository(words, write=True)
        modes = [
            (file["path"], "lfs" if file["path"].endswith(LARGE) else "regular") for file in json.loads(body)["files"]
        ]
        return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}

    def large_batch(self, words: dict, body: bytes) -> Any:
        self._repository(words, write=True)
        objects = [
            thing | ({} if thing["oid"] in self.hub.large else self._upload(thing["oid"]))
            for thing in json.loads(body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _upload(self, oid: str) -> dict:
        return {"actions": {"upload": {"href": f"{self.url}/large/{oid}", "header": {}}}}

    def large_put(self, words: dict, body: bytes) -> Any:
        if hashlib.sha256(body).hexdigest() != words["oid"]:
            raise HubError(400, "the content is not what its name says")
        self.hub.large[words["oid"]] = body
        return {}

    def commit(self, words: dict, body: bytes) -> Any:
        repository = self._repository(words, write=True)
        files = dict(repository.commits[repository.find(words["revision"])])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(words["revision"], files)
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.url}/{words['name']}/commit/{sha}"}

    def info(self, words: dict, body: bytes) -> Any:
        repository = self._repository(words)
        sha = repository.find(words["revision"] or "main")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        return {"id": words["name"], "sha": sha, "private": repository.private, "tags": [], "siblings": siblings}

    def tree(self, words: dict, body: bytes) -> Any:
        files, folder = self._files(words), words["path"].strip("/")
        inside = {path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not inside:
            raise HubError(404, f"{folder} does not exist", code="EntryNotFound")
        folders = {path.rpartition("/")[0] for path in inside if "/" in path[len(folder) + 1 :]} - {folder}
        return [_folder_info(path) for path in sorted(folders)] + [_file_info(*entry) for entry in inside.items()]

    def paths_info(self, words: dict, body: bytes) -> Any:
        files = self._files(words)
        is_json = body.startswith(b"{")
        paths = json.loads(body)["paths"] if is_json else parse_qs(body.decode())["paths"]
        folders = {path for path in paths if any(file.startswith(f"{path}/") for file in files)}
        return [_file_info(path, files[path]) for path in paths if path in files] + [_folder_info(p) for p in folders]

    def refs(self, words: dict, body: bytes) -> Any:
        repository = self._repository(words)
        named = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
        return {"converts": []} | {
            key: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in shas.items()]
            for key, (kind, shas) in named.items()
        }

    def branch(self, words: dict, body: bytes) -> Any:
        repository = self._repository(words, write=True)
        if words["branch"] in repository.branches:
            raise HubError(409, "Reference already exists")
        start = json.loads(body or b"{}").get("startingPoint", "main")
        repository.branches[words["branch"]] = repository.find(start)
        return {}

    def tag(self, words: dict, body: bytes) -> Any:
        repository = self._repository(words, write=True)
        repository.tags[json.loads(body)["tag"]] = repository.find(words["revision"])
        return {}

    def resolve(self, words: dict, body: bytes) -> tuple[bytes, dict[str, str]]:
        repository = self._repository(words)
        sha = repository.find(words["revision"])
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if words["path"] not in repository.commits[sha]:
            raise HubError(404, f"{words['path']} does not exist", code="EntryNotFound")
        content = repository.commits[sha][words["path"]]
        info = _file_info(words["path"], content)
        headers["ETag"] = f'"{info["oid"]}"'
        if "lfs" in info:
            headers |= {"X-Linked-Etag": f'"{info["lfs"]["oid"]}"', "X-Linked-Size": str(len(content))}
        return content, headers

    def _repository(self, words: dict, *, write: bool = False) -> Repository:
        kind = "dataset" if (words.get("kind") or "").startswith("datasets") else "model"
        return self.hub.repository(kind, words["name"], self.user, write=write)

    def _files(self, words: dict) -> dict[str, bytes]:
        repository = self._repository(words)
        return repository.commits[repository.find(words["revision"])]


def _folder_info(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}


_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_REPO = r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)"
_SHORT = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+)"  # names without an owner, which nothing here has
_REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", Answers.whoami),
    ("POST", "/api/repos/create", Answers.create),
    ("POST", "/api/validate-yaml", Answers.validate),
    ("POST", rf"{_API}/preupload/{_REVISION}", Answers.preupload),
    ("POST", rf"{_REPO}\.git/info/lfs/objects/batch", Answers.large_batch),
    ("PUT", r"/large/(?P<oid>\w+)", Answers.large_put),
    ("POST", rf"{_API}/commit/{_REVISION}", Answers.commit),
    ("GET", rf"{_API}(/revision/{_REVISION})?", Answers.info),
    ("GET", rf"{_SHORT}(/revision/{_REVISION})?", Answers.info),
    ("GET", rf"{_API}/tree/{_REVISION}(?P<path>/.*)?", Answers.tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", Answers.paths_info),
    ("GET", rf"{_API}/refs", Answers.refs),
    ("POST", rf"{_API}/branch/(?P<branch>[^/]+)", Answers.branch),
    ("POST", rf"{_API}/tag/{_REVISION}", Answers.tag),
    ("GET", rf"{_REPO}/resolve/{_REVISION}/(?P<path>.+)", Answers.resolve),
]


class Handler(BaseHTTPRequestHandler):
    """HTTP around [`Answers`]."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            found = self._find(path)(body)
        except HubError as error:
            return self.send(error.status, json.dumps(error.content).encode(), error.headers)
        if isinstance(found, tuple):
            return self.send_part(*found)
        return self.send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def _find(self, path: str):
        method = "GET" if self.command == "HEAD" else self.command
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise HubError(401, "Invalid credentials in Authorization header")
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        for known, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if known == method and match:
                words = {name: unquote(word or "") for name, word in match.groupdict().items()}
                return lambda body: answer(Answers(self.hub, USERS.get(token), url), words, body)
        raise HubError(404, f"{method} {path} is not part of this hub")

    def send_part(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or the bytes of it that `Range` asks for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.send(200, content, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        headers |= {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return self.send(206, content[first : last + 1], headers)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


class HubServer:
    """`with HubServer() as server`: a hub at `server.url` until the block ends."""

    def __init__(self) -> None:
        self.hub = Hub()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": self.hub}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
