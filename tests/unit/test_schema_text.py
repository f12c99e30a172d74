"""The objects of a schema, read from the text of a dump."""

from runbook_lib.postgres.clone import objects_in_text
from runbook_lib.postgres.schema_objects import differences

DUMPED = """--
-- PostgreSQL database dump
--

SET statement_timeout = 0;

--
-- TOC entry 219 (class 1259 OID 16390)
-- Name: parts; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public.parts (
    id bigint NOT NULL,
    "The state" character varying(9) DEFAULT 'x'::character varying,
    n integer,
    CONSTRAINT n_small CHECK ((n < 10))
)
WITH (fillfactor='50');


ALTER TABLE public.parts OWNER TO app;

--
-- TOC entry 3300 (class 2606 OID 16400)
-- Name: parts parts_pkey; Type: CONSTRAINT; Schema: public; Owner: app
--

ALTER TABLE ONLY public.parts
    ADD CONSTRAINT parts_pkey PRIMARY KEY (id);


--
-- TOC entry 3301 (class 1259 OID 16410)
-- Name: parts_n; Type: INDEX; Schema: public; Owner: app
--

CREATE INDEX parts_n ON public.parts USING btree (n);


--
-- TOC entry 3400 (class 0 OID 0)
-- Dependencies: 219
-- Name: COLUMN parts.n; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT(n) ON TABLE public.parts TO reader;


--
-- TOC entry 3401 (class 0 OID 0)
-- Dependencies: 219
-- Name: COLUMN parts.n; Type: COMMENT; Schema: public; Owner: app
--

COMMENT ON COLUMN public.parts.n IS 'how many';


--
-- TOC entry 10 (class 2615 OID 16385)
-- Name: runbook; Type: SCHEMA; Schema: -; Owner: runbook
--

CREATE SCHEMA runbook;
"""


def test_each_object_is_read_with_its_owner_except_the_runbooks_own() -> None:
    found = objects_in_text(DUMPED)

    assert {name: item.part_of for name, item in found.items() if not name.startswith("owner of")} == {
        "table public.parts": "",
        "column public.parts id": "table public.parts",
        "column public.parts The state": "table public.parts",
        "column public.parts n": "table public.parts",
        "constraint public.parts n_small": "table public.parts",
        "constraint public.parts parts_pkey": "table public.parts",
        "index public.parts parts_n": "table public.parts",
        "rights on column public.parts n": "column public.parts n",
        "comment on column public.parts n": "column public.parts n",
    }
    assert found["column public.parts The state"].definition == "character varying(9) DEFAULT 'x'::character varying"
    assert found["owner of table public.parts"].definition == "app"


def test_what_differs_in_the_text_is_named() -> None:
    changes = {
        "(9)": "(20)",
        "='50'": "='60'",
        "n < 10": "n < 11",
        "Owner: app\n--\n\nCREATE INDEX": "Owner: b\n--\n\nCREATE INDEX",
    }
    now = DUMPED
    for was, is_now in changes.items():
        now = now.replace(was, is_now)

    assert differences(objects_in_text(DUMPED), objects_in_text(now)).keys() == {
        "column public.parts The state",
        "table public.parts",
        "constraint public.parts n_small",
        "owner of index public.parts parts_n",
    }
