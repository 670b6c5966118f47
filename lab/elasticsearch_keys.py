"""A module that lets the laboratory's Elasticsearch 8.19 make API keys.

Its distribution lacks the module analysis-common, which no registry has, and without that it can't
make the index in which it keeps them. The few parts that this index names are compiled here.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

from lab.cache import ELASTICSEARCH_VERSION, PLUGIN, Progress, cached, elasticsearch_home, maven
from lab.elasticsearch9 import compile_java, java

_SOURCE = Path(__file__).with_name("elasticsearch_keys") / "LabAnalysis.java"
_COMPILER = "org.eclipse.jdt:ecj:3.43.0"
_NAME = "lab-analysis"
_DESCRIPTOR = f"""\
name={_NAME}
description=What the index of API keys needs
version={ELASTICSEARCH_VERSION}
elasticsearch.version={ELASTICSEARCH_VERSION}
java.version=17
classname=LabAnalysis
"""


def key_module(progress: Progress) -> Path:
    """Return the module's folder, made if need be.

    :param progress: told when something is fetched
    :raises MissingToolError: Java, Maven or uv is not there
    :raises DownloadError: Maven or uv could not fetch something
    :raises LabError: the module could not be compiled
    """
    server = elasticsearch_home(progress)
    program = java(progress)

    def make(target: Path) -> None:
        module = target / _NAME
        module.mkdir()
        with tempfile.TemporaryDirectory(dir=target.parent) as name:
            folder = Path(name)
            maven(
                "a Java compiler (3 MB)",
                [f"{PLUGIN}:copy", f"-Dartifact={_COMPILER}", f"-DoutputDirectory={folder}"],
                progress,
            )
            compile_java(
                program,
                _SOURCE,
                compiler=next(folder.glob("ecj-*.jar")),
                jars=sorted((server / "lib").glob("*.jar")),
                target=folder / "classes",
                release=17,
            )
            with zipfile.ZipFile(module / f"{_NAME}.jar", "w") as jar:
                for file in sorted((folder / "classes").glob("*.class")):
                    jar.write(file, file.name)
        (module / "plugin-descriptor.properties").write_text(_DESCRIPTOR, encoding="utf-8")

    digest = hashlib.sha256(_SOURCE.read_bytes() + _DESCRIPTOR.encode()).hexdigest()[:8]
    return cached(f"elasticsearch-{ELASTICSEARCH_VERSION}-keys-{digest}", make) / _NAME
