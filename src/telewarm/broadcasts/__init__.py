"""Broadcasts: one message to many chats. Created and controlled here, sent by the lanes of their bots."""
