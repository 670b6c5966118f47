"""Three Elasticsearch nodes that are one cluster, without users, plain HTTP."""

from __future__ import annotations

from typing import Any

from lab.cache import Progress
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.network import HOST, free_port
from lab.workspace import Workspace


class ElasticsearchCluster:
    """A cluster that any of its nodes may be taken from; two of them make a master.

    :param workspace: the laboratory it belongs to
    :param progress: told when something is fetched
    :param name: names the nodes, with a number
    :raises LabError: it can't be fetched
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        progress: Progress = lambda _: None,
        name: str = "cluster",
    ) -> None:
        self.name = name
        members = {f"{name}-{number}": free_port() for number in range(3)}
        self.nodes = tuple(
            Elasticsearch(workspace=workspace, progress=progress, name=one, members=members)
            for one in members
        )

    def connection(self) -> dict[str, object]:
        """Return an Airflow connection to all nodes, as ``AIRFLOW_CONN_*`` takes it as JSON."""
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return {"conn_type": "elasticsearch", "schema": "http", "host": hosts}

    def start(self) -> None:
        """Start the nodes that don't run; return when the cluster is healthy.

        :raises PartError: one of them does not come up
        """
        missing = [node for node in self.nodes if not node.running]
        for node in missing:
            node.launch()
        for node in missing:
            node.wait()

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 10) -> Any:
        """Send one request to a node that runs, see :meth:`.Elasticsearch.request`.

        :raises PartError: none runs, or it answers with an error
        """
        for node in self.nodes:
            if node.running:
                return node.request(method, path, body, timeout=timeout)
        raise PartError(self.name, "no node runs")

    def node(self, name: str) -> Elasticsearch:
        """Return a node by the name that Elasticsearch's own answers have."""
        return next(node for node in self.nodes if node.name == name)
