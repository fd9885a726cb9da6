"""The hub of `tools/try/hub_load.py`: students without accounts, servers without containers, this machine alone.

For tests only: whoever knows the password, which the test makes up for each run, may log in as any student.
"""

import os

c = get_config()  # noqa: F821  (JupyterHub's)
folder = os.environ["HUB_TEST_FOLDER"]

c.JupyterHub.bind_url = os.environ["HUB_TEST_ADDRESS"]
c.JupyterHub.hub_bind_url = os.environ["HUB_TEST_HUB"]
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.cookie_secret_file = os.path.join(folder, "cookie_secret")
c.ConfigurableHTTPProxy.command = os.environ["HUB_TEST_PROXY"]
c.ConfigurableHTTPProxy.api_url = os.environ["HUB_TEST_PROXY_API"]
c.ConfigurableHTTPProxy.pid_file = os.path.join(folder, "proxy.pid")

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["HUB_TEST_PASSWORD"]
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = os.path.join(folder, "{username}")
c.Spawner.ip = "127.0.0.1"
c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
c.Spawner.start_timeout = c.Spawner.http_timeout = 180  # ten servers that start at once on two cores
c.JupyterHub.concurrent_spawn_limit = 0  # no limit
if os.environ["HUB_TEST_CPU_LIMIT"]:
    c.Spawner.cpu_limit = float(os.environ["HUB_TEST_CPU_LIMIT"])
