"""What docs/operations.md tells an operator to ask, asked."""

import re
from urllib.parse import urlsplit

from deploy.local.plan import PROJECT_FOLDER
from tests.integration.database.conftest import ask, session


def test_what_operators_are_told_to_ask_is_answered(database: str) -> None:
    page = (PROJECT_FOLDER / "docs" / "operations.md").read_text()
    name = urlsplit(database).path[1:]
    questions = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(questions) == 5
    with session(database) as operator:
        for question in questions:
            operator.execute(question.replace("DATABASE carillon ", f'DATABASE "{name}" '))
        operator.commit()
    assert ask(database, "SHOW jit") == "off"
