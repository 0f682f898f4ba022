"""Writing a traced network as readable PyTorch source that needs nothing but PyTorch.

`calls` finds again in the traced graph which module called which; `layers` recognises torch's own
modules, `operations` writes everything else as expressions; `parts` makes blocks of both, `classes`
makes one class of all blocks that differ in numbers only, and `text` lays the lines out.
"""
