def try_all(prometheus, rule):
    pass
