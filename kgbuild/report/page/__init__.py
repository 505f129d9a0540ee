# SPDX-License-Identifier: GPL-2.0-or-later
"""The page that a reviewer opens: one HTML file made of documents, without anything from outside."""
