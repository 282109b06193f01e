"""The data set ``scenes`` in Croissant, MLCommons' JSON-LD for data sets (version 1.0)."""

from __future__ import annotations

from typing import Any

from experiments.declare.run_spec import RunSpec
from ssa.datasets.scenes import SCENES

CROISSANT = "http://mlcommons.org/croissant/1.0"
LICENCE = "https://spdx.org/licenses/Apache-2.0"
#: the context that the specification prescribes
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def describe_scenes(spec: RunSpec, published: str) -> dict[str, Any]:
    """What a run trained on: where images and labels lie in its folder, and what the ids mean.

    Args:
        spec: of a run on ``scenes``; its data set's settings and digest are in the description.
        published: a date, ISO 8601.
    """
    settings = ", ".join(f"{name}: {value}" for name, value in spec.dataset_settings.items())
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CROISSANT,
        "name": f"scenes-{spec.dataset_digest[:12]}",
        "description": (
            "Street and room scenes drawn from a seed, with a class id for every pixel; "
            f"{SCENES.ignore_index} is ignored. Settings: {settings or 'as declared'}. The images "
            "are made where a run needs them and are no part of the bundle; the sha256 of all of "
            f"them, in the order of making, is {spec.dataset_digest}."
        ),
        "license": LICENCE,
        "version": "1.0.0",
        "datePublished": published,
        "isLiveDataset": False,
        "distribution": [
            _files("images", "Images, RGB."),
            _files("annotations", "Labels: one channel of class ids."),
        ],
        "recordSet": [_pictures("images"), _pictures("annotations"), _classes()],
    }


def _files(kind: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": kind,
        "name": kind,
        "description": description,
        "encodingFormat": "image/png",
        "includes": f"{kind}/*/*.png",
    }


def _pictures(kind: str) -> dict[str, Any]:
    def field(name: str, data_type: str, source: dict[str, Any]) -> dict[str, Any]:
        return {
            "@type": "cr:Field",
            "@id": f"{kind}-pictures/{name}",
            "name": name,
            "dataType": data_type,
            "source": {"fileSet": {"@id": kind}, **source},
        }

    path = {"fileProperty": "fullpath"}
    split = {"extract": path, "transform": {"regex": rf"^.*{kind}/([^/]+)/[^/]+\.png$"}}
    return {
        "@type": "cr:RecordSet",
        "@id": f"{kind}-pictures",
        "name": f"{kind}-pictures",
        "field": [
            field("file", "sc:Text", {"extract": {"fileProperty": "filename"}}),
            field("split", "sc:Text", split),
            field("picture", "sc:ImageObject", {"extract": {"fileProperty": "content"}}),
        ],
    }


def _classes() -> dict[str, Any]:
    def field(name: str, data_type: str) -> dict[str, Any]:
        return {
            "@type": "cr:Field",
            "@id": f"classes/{name}",
            "name": name,
            "dataType": data_type,
        }

    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "key": {"@id": "classes/id"},
        "field": [field("id", "sc:Integer"), field("name", "sc:Text")],
        "data": [
            {"classes/id": number, "classes/name": name}
            for number, name in enumerate(SCENES.class_names)
        ],
    }
