-- Templates: workflows that are kept by name and run with parameters.

create table if not exists absurd.template (
    name        text primary key check (name <> ''),
    description text,
    queue       text not null,
    steps       jsonb not null check (jsonb_typeof(steps) = 'array' and steps <> '[]'),
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);
