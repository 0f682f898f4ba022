"""An exported model behind HTTP: the Open Inference Protocol v2, images, metrics and a page.

Needs the extra `serve` (Starlette, uvicorn, prometheus_client) and never imports torch.
"""
