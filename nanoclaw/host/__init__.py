"""The real gateway: an asyncio daemon around the gateway core, with its own broker and its outbox on disk."""
