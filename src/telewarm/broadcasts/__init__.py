"""Broadcasts: one message to many chats. Made and controlled here, sent by the lanes of their bots."""
