"""A stand-in for wandb's server: as much of GraphQL, the file stream and uploads as runs, artifacts and workspaces use.

    with StandIn() as server:
        os.environ["WANDB_BASE_URL"] = server.url

What it does with them is what the real one is documented to do: a run is one however often it is written, lines of its
history stand where their offset says, and its summary is what was sent last.
"""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

ENTITY = "lab"


@dataclass
class Bucket:
    """A run on the server."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    """As the client gave them last: displayName, groupName, jobType, tags, notes, modelName."""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    uploads: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0
    """How often it was written to its end."""


class StandIn:
    """The server, and what it holds."""

    def __init__(self) -> None:
        self.runs: dict[str, Bucket] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        """Names of GraphQL operations that it has no answer to."""
        self.lock = threading.Lock()
        stand_in = self

        class Handler(_Handler):
            server_state = stand_in

        self.http = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def of_kind(self, kind: str, group: str) -> dict[str, Bucket]:
        """The runs of a job type and a group by their displayed name."""
        found = [run for run in self.runs.values() if (run.fields["jobType"], run.fields["groupName"]) == (kind, group)]
        return {run.fields["displayName"]: run for run in found}

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an answer."""
        answer = getattr(self, f"_{name}", None)
        if answer is None:
            self.unknown.append(name)
            return {}
        return answer(variables)

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        """A message of the file stream."""
        bucket = self.runs[run]
        for name, part in sent.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]] if name.endswith((".jsonl", ".json")) else []
            if name == "wandb-history.jsonl":
                bucket.history[part["offset"] : part["offset"] + len(lines)] = lines
            elif name == "wandb-summary.json":
                bucket.summary = lines[-1]
        if sent.get("complete"):
            bucket.exit_code = sent["exitcode"]
            bucket.sent += 1

    def _project(self) -> dict[str, Any]:
        return {"id": "project", "name": "palimpsest", "entity": {"id": "entity", "name": ENTITY}}

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "viewer", "entity": ENTITY, "username": "ada", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        bucket = self.runs.get(given["name"])
        found = bucket and {
            "id": bucket.name,
            "name": bucket.name,
            "displayName": bucket.fields["displayName"],
            "summaryMetrics": json.dumps(bucket.summary),
            "config": json.dumps({key: {"value": value} for key, value in bucket.config.items()}),
            "tags": bucket.fields["tags"],
            "notes": bucket.fields["notes"],
            "historyLineCount": len(bucket.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in bucket.history[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": bucket.config["_wandb"]["t"]}),
        }
        return {"model": {**self._project(), "bucket": found}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["name"] or given["id"]
        inserted = name not in self.runs
        bucket = self.runs.setdefault(name, Bucket(name))
        known = {"groupName", "displayName", "notes", "jobType", "tags", "project"} & given.keys()
        bucket.fields |= {"notes": None, "tags": []} if inserted else {}
        bucket.fields |= {key: given[key] for key in known if given[key] is not None}
        if given.get("config"):
            bucket.config = {key: value["value"] for key, value in json.loads(given["config"]).items()}
        run = {"id": name, "name": name, "displayName": bucket.fields.get("displayName"), "description": None,
               "config": None, "sweepName": None, "historyLineCount": len(bucket.history), "project": self._project()}
        return {"upsertBucket": {"bucket": run, "inserted": inserted}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/run/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _FetchArtifactDigestAlgorithm(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifactType": None}}

    def _OrgFeatureFlags(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"organization": {"featureFlags": []}}

    def _XXHashDigestsEnabled(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        told = given["input"]
        kept = {"name": told["artifactCollectionName"], "type": told["artifactTypeName"], "run": told["runName"]}
        self.artifacts.append({**kept, "files": {}, "state": "PENDING"})
        number = len(self.artifacts) - 1
        made = {"id": str(number), "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": made}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = self._file(given["artifactID"], "manifest")
        made = {"id": given["artifactID"], "file": {"id": "file", **file}}
        return {"createArtifactManifest": {"artifactManifest": made}}

    def _UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = self._file(given["artifactManifestID"], "manifest")
        made = {"id": given["artifactManifestID"], "file": {"id": "file", **file}}
        return {"updateArtifactManifest": {"artifactManifest": made}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {"storagePath": None, "uploadMultipartUrls": None, "artifact": {"id": one["artifactID"]},
             **self._file(one["artifactID"], one["name"])}
            for one in given["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[int(given["artifactID"])]["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "digest"}}}

    def _file(self, artifact: str, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.url}/artifact/{artifact}/{name}", "uploadHeaders": []}

    def _UpsertView2(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views.append(given)
        id = given.get("id") or f"view-{len(self.views)}"
        return {"upsertView": {"view": {"id": id, "name": given["name"]}, "inserted": True}}


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that has hung up is no trouble."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: StandIn

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        body = self._body()
        kind, _, rest = self.path.lstrip("/").partition("/")
        with self.server_state.lock:
            owner, _, name = rest.partition("/")
            if kind == "run":
                self.server_state.runs[owner].uploads[unquote(name)] = body
            else:
                self.server_state.artifacts[int(owner)]["files"][unquote(name)] = body
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        with self.server_state.lock:
            answer: dict[str, Any] = {}
            if self.path.endswith("/file_stream"):
                self.server_state.stream(self.path.split("/")[-2], json.loads(body))
            elif self.path.endswith("/graphql"):
                asked = json.loads(body)
                named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                data = self.server_state.graphql(named[1] if named else "", asked.get("variables") or {})
                answer = {"data": data}
        self._reply(answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
