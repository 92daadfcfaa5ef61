"""Sites and groups."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from fleet.core.places import Places
from fleet.host.access import Doorkeeper
from fleet.host.answers import DENIED, answer, done, problem_docs
from fleet.host.bodies import Id, Text
from fleet.host.deeds import carry_out
from fleet.host.problems import Problem
from fleet.host.stage import Stage

MOST_NODES = 10_000
_ID = r"^[a-z0-9][a-z0-9-]{0,31}$"
SiteId = Annotated[str, Path(pattern=_ID)]
GroupId = Annotated[str, Path(pattern=_ID)]


class Site(BaseModel):
    """What people call a site, and where it is."""

    model_config = ConfigDict(extra="forbid")

    title: Text = ""
    address: Text = ""
    latitude: float | None = Field(None, strict=True, ge=-90, le=90, allow_inf_nan=False)
    longitude: float | None = Field(None, strict=True, ge=-180, le=180, allow_inf_nan=False)


class Group(BaseModel):
    """Nodes that belong together."""

    model_config = ConfigDict(extra="forbid")

    title: Text = ""
    nodes: list[Id] = Field(max_length=MOST_NODES)


def router(stage: Stage, doors: Doorkeeper) -> APIRouter:
    """The routes of sites and groups."""
    routes = APIRouter(prefix="/api/v1/fleet", tags=["sites and groups"])
    viewer, admin = [Depends(doors.needs("viewer"))], [Depends(doors.needs("admin"))]
    _add_sites(routes, stage, viewer, admin)
    _add_groups(routes, stage, viewer, admin)
    return routes


def _places(stage: Stage) -> Places:
    return stage.runtime.core.places


def _add_sites(routes: APIRouter, stage: Stage, viewer: list[Any], admin: list[Any]) -> None:
    known = done(200, "changed", {"site_id": "office"}) | done(201, "new", {"site_id": "office"})

    @routes.get("/sites", summary="Sites, by id", dependencies=viewer, responses=problem_docs(**DENIED))
    async def sites() -> Response:
        return answer({"sites": [_site(view) for view in _places(stage).site_views()]})

    @routes.get(
        "/sites/{site_id}",
        summary="One site",
        dependencies=viewer,
        responses=problem_docs(_404="there is no such site", **DENIED),
    )
    async def site(site_id: SiteId) -> Response:
        for view in _places(stage).site_views():
            if view["id"] == site_id:
                return answer(_site(view))
        raise Problem(404, "not_found", f"there is no site {site_id!r}")

    @routes.put(
        "/sites/{site_id}",
        summary="Describe a site",
        dependencies=admin,
        responses=known | problem_docs(_409="there are too many", **DENIED),
    )
    async def put_site(site_id: SiteId, site: Site) -> Response:
        new = await carry_out(stage, _places(stage).put_site, site_id, site.model_dump())
        return answer({"site_id": site_id} | site.model_dump(), 201 if new else 200)

    @routes.delete(
        "/sites/{site_id}",
        summary="Forget an empty site",
        dependencies=admin,
        status_code=204,
        responses=problem_docs(_404="there is no such site", _409="it has gateways or nodes", **DENIED),
    )
    async def drop_site(site_id: SiteId) -> Response:
        await carry_out(stage, _places(stage).drop_site, site_id)
        return Response(status_code=204)


def _add_groups(routes: APIRouter, stage: Stage, viewer: list[Any], admin: list[Any]) -> None:
    known = done(200, "changed", {"group_id": "doors"}) | done(201, "new", {"group_id": "doors"})

    @routes.get("/groups", summary="Groups, by id", dependencies=viewer, responses=problem_docs(**DENIED))
    async def groups() -> Response:
        rows = _places(stage).groups
        return answer({"groups": [{"group_id": group} | rows[group]["doc"] for group in sorted(rows)]})

    @routes.get(
        "/groups/{group_id}",
        summary="One group",
        dependencies=viewer,
        responses=problem_docs(_404="there is no such group", **DENIED),
    )
    async def group(group_id: GroupId) -> Response:
        row = _places(stage).groups.get(group_id)
        if row is None:
            raise Problem(404, "not_found", f"there is no group {group_id!r}")
        return answer({"group_id": group_id} | row["doc"])

    @routes.put(
        "/groups/{group_id}",
        summary="Define a group by its nodes",
        dependencies=admin,
        responses=known | problem_docs(_409="there is no such node, or there are too many groups", **DENIED),
    )
    async def put_group(group_id: GroupId, group: Group) -> Response:
        doc = {"title": group.title, "nodes": sorted(set(group.nodes))}
        new = await carry_out(stage, _places(stage).put_group, group_id, doc)
        return answer({"group_id": group_id} | doc, 201 if new else 200)

    @routes.delete(
        "/groups/{group_id}",
        summary="Forget a group; its nodes stay",
        dependencies=admin,
        status_code=204,
        responses=problem_docs(_404="there is no such group", **DENIED),
    )
    async def drop_group(group_id: GroupId) -> Response:
        await carry_out(stage, _places(stage).drop_group, group_id)
        return Response(status_code=204)


def _site(view: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in view.items() if name != "id"}
    return {"site_id": view["id"], **Site().model_dump(), **rest}
