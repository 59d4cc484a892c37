def draw(results, publish): pass
