"""What is shown of a fleet manager's memory: copies of rows, without a key in them."""

from fleet.core.alerts import Alerts
from fleet.core.commands import Commands
from fleet.core.configuration import Configuration
from fleet.core.maintenance import Maintenance
from fleet.core.notices import Notices
from fleet.core.registry import Registry
from fleet.wire.uplink import Message


class Views:
    """The part of the core that changes nothing."""

    registry: Registry
    configuration: Configuration
    alerts: Alerts
    commands: Commands
    maintenance: Maintenance
    notices: Notices

    @property
    def config_version(self) -> int:
        """The version of the gateways' configuration."""
        return self.configuration.version

    def node_views(self) -> list[Message]:
        """All nodes, without their keys."""
        return [self.node_view(node) for node in self.registry.nodes]

    def node_view(self, node: str) -> Message:
        """One node, without its key. Raises KeyError."""
        return _shown(self.registry.nodes[node])

    def gateway_views(self) -> list[Message]:
        """All gateways, without their keys."""
        return [_shown(row) for row in self.registry.gateways.values()]

    def alert_views(self) -> list[Message]:
        """The episodes in memory: all that are raised, and those cleared lately."""
        return [{**row, "doc": dict(row["doc"])} for row in self.alerts.rows.values()]

    def maintenance_views(self) -> list[Message]:
        """The maintenance windows that are not long over."""
        return [{**row, "doc": dict(row["doc"])} for row in self.maintenance.rows.values()]

    def dead_letter_views(self) -> list[Message]:
        """The messages that nobody accepted in all their attempts, the oldest first."""
        return [{**row, "doc": dict(row["doc"])} for row in self.notices.dead.values()]

    def command_view(self, command_id: str) -> Message:
        """One command. Raises KeyError."""
        row = self.commands.rows[command_id]
        return {**row, "doc": dict(row["doc"])}


def _shown(row: Message) -> Message:
    return {"id": row["id"], **{name: value for name, value in row["doc"].items() if name != "key"}}
